/*
 * storm SPAWNERS CHILDREN: makes processes that live for a fraction of a millisecond. Each of
 * SPAWNERS processes makes CHILDREN, one after the other, that execute this program again as
 * `storm leaf SPAWNER NUMBER` and end at once with NUMBER % 251. Exits with 0 if every one of them
 * ended as it should; prints the microseconds from fork to end, on average.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static int spawn(const char *self, int children)
{
	char spawner[16], number[16];
	int wrong = 0;

	snprintf(spawner, sizeof(spawner), "%d", getpid());
	for (int n = 0; n < children; n++) {
		int status = -1;
		pid_t child;

		snprintf(number, sizeof(number), "%d", n);
		child = vfork();
		if (child == 0) {
			execl(self, "storm", "leaf", spawner, number, (char *)NULL);
			_exit(255);
		}
		if (child < 0 || waitpid(child, &status, 0) != child ||
		    !WIFEXITED(status) || WEXITSTATUS(status) != n % 251)
			wrong++;
	}
	return wrong != 0;
}

int main(int argc, char **argv)
{
	int spawners, children, wrong = 0, status;
	double start;

	if (argc == 4 && strcmp(argv[1], "leaf") == 0)
		_exit(atoi(argv[3]) % 251);
	if (argc != 3)
		return 2;
	spawners = atoi(argv[1]);
	children = atoi(argv[2]);
	start = now_us();
	for (int n = 0; n < spawners; n++)
		if (fork() == 0)
			_exit(spawn("/proc/self/exe", children));
	while (wait(&status) > 0)
		wrong += status != 0;
	printf("%.1f\n", (now_us() - start) / children);
	return wrong != 0;
}
