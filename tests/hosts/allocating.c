/* Threads that do nothing but allocate and free, the first one included.
 *
 *   allocating THREADS [HZ]    with HZ, under a timer's signals as well
 *   count                      the least number of rounds of any thread, and how many signals came
 *
 * It ends at the end of its input. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { KEPT = 64, MOST = 64 };

static _Atomic long rounds[MOST], signals;

static void on_alarm(int signal) {
    (void)signal;
    signals++;
}

static void turn(unsigned *seed, void **kept) {
    int slot = rand_r(seed) % KEPT;
    /* Now and then one large enough to be mapped. */
    size_t size = rand_r(seed) % 500 == 0 ? 200000 : 16 + rand_r(seed) % 4000;
    if (rand_r(seed) % 3 == 0)
        kept[slot] = realloc(kept[slot], size);
    else {
        free(kept[slot]);
        kept[slot] = malloc(size);
    }
    memset(kept[slot], slot, 16);
}

static void *work(void *argument) {
    long number = (long)argument;
    unsigned seed = (unsigned)number * 7919;
    void *kept[KEPT] = {0};
    for (;; rounds[number]++)
        turn(&seed, kept);
    return NULL;
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    long threads = count > 1 ? atol(arguments[1]) : 8, hz = count > 2 ? atol(arguments[2]) : 0;
    if (hz) {
        struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
        sigaction(SIGALRM, &action, NULL);
        struct itimerval timer = {{0, 1000000 / hz}, {0, 1000000 / hz}};
        setitimer(ITIMER_REAL, &timer, NULL);
    }
    for (long number = 1; number < threads; number++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)number))
            return 2;
    }
    printf("ready %d\n", getpid());
    unsigned seed = 1;
    void *kept[KEPT] = {0};
    for (;; rounds[0]++) {
        turn(&seed, kept);
        struct pollfd input = {0, POLLIN, 0};
        if (rounds[0] % 1000 || poll(&input, 1, 0) <= 0)
            continue;
        char line[64];
        if (!fgets(line, sizeof line, stdin))
            return 0;
        long least = rounds[0];
        for (long number = 1; number < threads; number++)
            least = rounds[number] < least ? (long)rounds[number] : least;
        printf(">%ld %ld\n", least, (long)signals);
    }
}
