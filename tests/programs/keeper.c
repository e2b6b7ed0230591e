/* A program of C with state wherever C keeps it. Each line of its input is one round; it answers with what it counts, which
 * is the same everywhere as long as nothing got lost, and ends with its input. Versions differ by the macro VERSION. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 8 };

struct node {
    struct node *next;
    long round;
};

static long rounds;
static long from_data = 1000;
static long slots[SLOTS];
static struct node *nodes;
static _Thread_local long of_thread;
static _Thread_local long of_thread_from_data = 50;
static volatile sig_atomic_t signals;
static long worker_turns;
long exported = 7;

static long tripled(long x) { return 3 * x + VERSION; }
static long squared(long x) { return x * x + 10 * VERSION; }

/* Written by the loader, kept by the program. */
static long (*const operations[])(long) = {tripled, squared};
static long (*chosen)(long) = tripled;

/* Ends at the address where the next static begins. */
static long sum_of_slots(void) {
    long sum = 0;
    for (const long *slot = slots; slot < slots + SLOTS; slot++)
        sum += *slot;
    return sum;
}

static void on_signal(int signal) {
    (void)signal;
    signals += VERSION;
}

static void at_end(void) { printf("version %d ends after %ld rounds\n", VERSION, rounds); }

/* The environment's vector is a variable of libc: the program has a copy of it, which libc uses as well. */
static long in_environment(void) {
    for (char **entry = environ; *entry; entry++)
        if (!strncmp(*entry, "KEEPER=", 7))
            return atol(*entry + 7);
    return -1;
}

static long remember(long round) {
    static long calls = 0;
    struct node *node = malloc(sizeof *node);
    node->next = nodes;
    node->round = round;
    nodes = node;
    long length = 0;
    for (const struct node *at = nodes; at; at = at->next)
        length++;
    return ++calls == length ? length : -1;
}

#if VERSION >= 3
static long added_later = 300;
static __attribute__((noinline)) long added(void) {
    /* Nobody has used this variable of libc before. */
    return ++added_later + (long)strlen(program_invocation_short_name);
}
#else
static long added(void) { return 0; }
#endif

static __attribute__((noinline)) void round_of_worker(void) {
    of_thread += 1;
    of_thread_from_data += VERSION;
    __atomic_store_n(&worker_turns, of_thread, __ATOMIC_RELEASE);
}

static pthread_barrier_t turn;

static void *work(void *nothing) {
    for (;;) {
        pthread_barrier_wait(&turn);
        round_of_worker();
        pthread_barrier_wait(&turn);
    }
    return nothing;
}

static __attribute__((noinline)) void one_round(void) {
    rounds += 1;
    from_data += 1;
    exported += 1;
    slots[rounds % SLOTS] += 1;
    of_thread += 1;
    of_thread_from_data += 1;
    optind += 1;
    char text[32];
    snprintf(text, sizeof text, "%ld", rounds);
    setenv("KEEPER", text, 1);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    long counts[] = {from_data - 1000, exported - 7,       sum_of_slots(),     of_thread,       of_thread_from_data - 50,
                     optind - 1,       in_environment(),   remember(rounds),   worker_turns,    atol(getenv("KEEPER"))};
    long kept = rounds;
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i] != rounds)
            kept = -(long)i - 1;
    raise(SIGUSR1);
    errno = 0;
    fprintf(stdout, ">rounds=%ld kept=%ld version=%d chosen=%ld table=%ld signals=%d added=%ld errno=%d\n", rounds, kept,
            VERSION, chosen(2), operations[1](2), signals, added(), errno);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    atexit(at_end);
    signal(SIGUSR1, on_signal);
    pthread_barrier_init(&turn, NULL, 2);
    pthread_t worker;
    pthread_create(&worker, NULL, work, NULL);
    char line[64];
    while (fgets(line, sizeof line, stdin))
        one_round();
    return 0;
}
