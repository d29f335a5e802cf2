/* Functions with the calling conventions of a TLS library, for cases that a real one rarely meets. */
#include <setjmp.h>
#include <stddef.h>
#include <unistd.h>

int shim_write(void *connection, const void *data, int size)
{
	return connection && data ? size : -1;
}

int shim_write_outer(void *connection, const void *data, int size)
{
	return shim_write(connection, data, size);
}

int shim_write_ex2(void *connection, const void *data, size_t size, unsigned long flags,
		   size_t *done)
{
	(void)flags;
	*done = size;
	return connection && data;
}

/* As a handshake that ends in a read runs a callback that writes to the same connection. */
int shim_read(void *connection, void *data, int size)
{
	return shim_write(connection, data, size - 1) > 0 ? size : -1;
}

/* As TLS inside TLS: what is written to one connection is written to the one around it, longer. */
int shim_write_through(void *inner, const void *data, int size, void *outer)
{
	(void)inner;
	return shim_write(outer, data, size + 5) > 0 ? size : -1;
}

static jmp_buf before;

int shim_write_jumps(void *connection, const void *data, int size)
{
	(void)connection, (void)data, (void)size;
	longjmp(before, 1);
}

int shim_try(void *connection, const void *data, int size)
{
	return setjmp(before) ? -1 : shim_write_jumps(connection, data, size);
}

/* Says by the pipe whose number it gets for a size that it has been entered, and never returns. */
int shim_write_hangs(void *connection, const void *data, int size)
{
	(void)connection;
	(void)!write(size, data, 1);
	for (;;)
		pause();
}

/* The same call again and again, as fast as it goes. */
void shim_write_often(void *connection, const void *data, int size, int times)
{
	while (times-- > 0)
		shim_write(connection, data, size);
}

void shim_free(void *connection)
{
	(void)connection;
}
