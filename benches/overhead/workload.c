/*
 * What the overhead benchmark measures: TLS clients and their server, starts of programs, file use.
 * Every client prints "wall_ns cpu_ns read_bytes written_bytes" of its work, set-up not included.
 *
 *   workload server CERTIFICATE KEY              prints its port, serves until killed
 *   workload burst|bulk|unique|resent|call|streams PORT
 *   workload exec|files DIRECTORY
 *
 * A request is one line "RESPONSE_BYTES CHUNK_BYTES PAUSE_US BODY_BYTES PERIOD_BYTES\n" and a body; the
 * response is sent in chunks of that size, one SSL_write each, and says the same again after a period.
 * OpenSSL is loaded at run time, so that no headers
 * are needed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FUNCTIONS(X)                                                                               \
	X(void *, TLS_client_method, (void))                                                       \
	X(void *, TLS_server_method, (void))                                                       \
	X(void *, SSL_CTX_new, (const void *))                                                     \
	X(int, SSL_CTX_use_certificate_chain_file, (void *, const char *))                         \
	X(int, SSL_CTX_use_PrivateKey_file, (void *, const char *, int))                           \
	X(void *, SSL_new, (void *))                                                               \
	X(int, SSL_set_fd, (void *, int))                                                          \
	X(int, SSL_connect, (void *))                                                              \
	X(int, SSL_accept, (void *))                                                               \
	X(int, SSL_read, (void *, void *, int))                                                    \
	X(int, SSL_write, (void *, const void *, int))                                             \
	X(void, SSL_free, (void *))
#define DECLARE(result, name, arguments) static result(*name) arguments;
FUNCTIONS(DECLARE)

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void load_openssl(void)
{
	void *library = dlopen("libssl.so.3", RTLD_NOW);

	if (!library)
		library = dlopen("libssl.so.1.1", RTLD_NOW);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
#define LOAD(result, name, arguments)                                                              \
	name = (result(*) arguments)dlsym(library, #name);                                         \
	if (!name)                                                                                 \
		fail(#name);
	FUNCTIONS(LOAD)
}

/* What takes tens of milliseconds is done more than once: a recorder has its own to begin and end. */
#define ROUNDS 5
#define BULK_BYTES (64l << 20)
#define REPEATED_BYTES (4l << 20)
/* Room for a chunk that begins at the end of a period. */
#define BLOCK_BYTES (BULK_BYTES + (1 << 20))

/* What is sent: text in which nothing comes again. */
static char block[BLOCK_BYTES];
static unsigned long long read_bytes, written_bytes;
static pthread_mutex_t totals = PTHREAD_MUTEX_INITIALIZER;

/* ---- Server ---- */

static int read_line(void *tls, char *line, int room)
{
	int length = 0;

	while (length < room - 1 && SSL_read(tls, line + length, 1) == 1)
		if (line[length++] == '\n') {
			line[length] = 0;
			return 1;
		}
	return 0;
}

/* Made-up words, the same in every run: about as well compressible as prose. */
static void fill(char *text, size_t length)
{
	unsigned long long state = 88172645463325252ull;
	size_t at = 0;

	while (at + 16 < length) {
		unsigned long long word;
		int letters;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		/* One of 2,048 words, made of itself. */
		word = (state >> 20) % 2048 * 0x9e3779b97f4a7c15ull;
		for (letters = 2 + word % 9; letters >= 0; letters--, word >>= 5)
			text[at++] = 'a' + word % 26;
		text[at++] = ' ';
	}
	while (at < length)
		text[at++] = '.';
}

static void *serve(void *tls)
{
	char line[256];
	long response, chunk, pause_us, body, period, at = 0;
	static char discarded[1 << 16];

	if (SSL_accept(tls) != 1)
		return 0;
	while (read_line(tls, line, sizeof(line))) {
		if (sscanf(line, "%ld %ld %ld %ld %ld", &response, &chunk, &pause_us, &body,
			   &period) != 5)
			break;
		while (body > 0) {
			int got = SSL_read(tls, discarded, body < 65536 ? body : 65536);

			if (got <= 0)
				return 0;
			body -= got;
		}
		while (response > 0) {
			int put = SSL_write(tls, block + at, response < chunk ? response : chunk);

			if (put <= 0)
				return 0;
			response -= put;
			at = (at + put) % period;
			if (pause_us)
				usleep(pause_us);
		}
	}
	SSL_free(tls);
	return 0;
}

static void server(const char *certificate, const char *key)
{
	void *context = SSL_CTX_new(TLS_server_method());
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, key, 1) != 1)
		fail("certificate");
	if (bind(listener, (void *)&address, length) || listen(listener, 64))
		fail("bind");
	getsockname(listener, (void *)&address, &length);
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	for (;;) {
		int plain = accept(listener, 0, 0);
		void *tls = SSL_new(context);
		pthread_t thread;

		setsockopt(plain, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		SSL_set_fd(tls, plain);
		if (pthread_create(&thread, 0, serve, tls))
			fail("thread");
		pthread_detach(thread);
	}
}

/* ---- Clients ---- */

static int port;

static void *connected(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int plain = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	void *tls = SSL_new(SSL_CTX_new(TLS_client_method()));

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(plain, (void *)&address, sizeof(address)))
		fail("connect");
	setsockopt(plain, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	SSL_set_fd(tls, plain);
	if (SSL_connect(tls) != 1)
		fail("handshake");
	return tls;
}

static void ask(void *tls, long response, long chunk, long pause_us, long body, long period)
{
	static __thread char discarded[1 << 16];
	char line[256];
	int length = sprintf(line, "%ld %ld %ld %ld %ld\n", response, chunk, pause_us, body, period);
	unsigned long long read = 0, written = length + body;

	if (SSL_write(tls, line, length) != length ||
	    (body && SSL_write(tls, block, body) != body))
		fail("write");
	while (response > 0) {
		int got = SSL_read(tls, discarded, sizeof(discarded));

		if (got <= 0)
			fail("read");
		response -= got;
		read += got;
	}
	pthread_mutex_lock(&totals);
	read_bytes += read;
	written_bytes += written;
	pthread_mutex_unlock(&totals);
}

static void *stream(void *unused)
{
	(void)unused;
	ask(connected(), 2000 * 110, 110, 500, 0, REPEATED_BYTES);
	return 0;
}

static void streams(void)
{
	pthread_t threads[16];

	for (int i = 0; i < 16; i++)
		pthread_create(&threads[i], 0, stream, 0);
	for (int i = 0; i < 16; i++)
		pthread_join(threads[i], 0);
}

static void start_programs(void)
{
	for (int i = 0; i < 1500; i++) {
		char *arguments[] = { "true", 0 };
		pid_t child;

		if (posix_spawn(&child, "/bin/true", 0, 0, arguments, 0) ||
		    waitpid(child, 0, 0) != child)
			fail("spawn");
	}
}

static void use_files(const char *directory)
{
	char path[4096];

	for (int round = 0; round < 20; round++)
		for (int i = 0; i < 500; i++) {
			int file;

			snprintf(path, sizeof(path), "%s/%d", directory, i);
			file = open(path, O_CREAT | O_RDWR, 0600);
			if (file < 0 || write(file, block, 4096) != 4096 ||
			    pread(file, block, 4096, 0) != 4096)
				fail(path);
			close(file);
			if (round == 19)
				unlink(path);
		}
}

static unsigned long long clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* Of this process and the children it has waited for. */
static unsigned long long cpu_ns(void)
{
	struct rusage children;

	getrusage(RUSAGE_CHILDREN, &children);
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) +
	       (children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1000000000ull +
	       (children.ru_utime.tv_usec + children.ru_stime.tv_usec) * 1000ull;
}

int main(int count, char **arguments)
{
	const char *what = count > 2 ? arguments[1] : "";
	unsigned long long wall, cpu;
	void *tls = 0;

	fill(block, REPEATED_BYTES);
	if (!strcmp(what, "server") && count == 4) {
		load_openssl();
		fill(block, sizeof(block));
		server(arguments[2], arguments[3]);
	}
	if (strcmp(what, "exec") && strcmp(what, "files")) {
		load_openssl();
		port = atoi(arguments[2]);
		if (strcmp(what, "streams"))
			tls = connected();
	}
	wall = clock_ns(CLOCK_MONOTONIC);
	cpu = cpu_ns();
	if (!strcmp(what, "burst"))
		for (int round = 0; round < ROUNDS; round++)
			ask(tls, 9000 * 110, 110, 0, 0, REPEATED_BYTES);
	else if (!strcmp(what, "bulk"))
		for (int round = 0; round < ROUNDS; round++)
			ask(tls, BULK_BYTES, 16384, 0, 0, REPEATED_BYTES);
	else if (!strcmp(what, "unique"))
		ask(tls, BULK_BYTES, 16384, 0, 0, BULK_BYTES);
	else if (!strcmp(what, "resent"))
		for (int turn = 0; turn < 100 * ROUNDS; turn++)
			ask(tls, 20 * 110, 110, 0, (turn % 100 + 1) * 8192, REPEATED_BYTES);
	else if (!strcmp(what, "call"))
		ask(tls, 1, 1, 0, REPEATED_BYTES, REPEATED_BYTES);
	else if (!strcmp(what, "streams"))
		streams();
	else if (!strcmp(what, "exec"))
		start_programs();
	else if (!strcmp(what, "files"))
		use_files(arguments[2]);
	else
		return 2;
	cpu = cpu_ns() - cpu;
	wall = clock_ns(CLOCK_MONOTONIC) - wall;
	if (tls)
		SSL_free(tls);
	printf("%llu %llu %llu %llu\n", wall, cpu, read_bytes, written_bytes);
	return 0;
}
