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

void shim_free(void *connection)
{
	(void)connection;
}
