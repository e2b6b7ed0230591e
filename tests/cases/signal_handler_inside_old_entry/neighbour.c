/* Handles SIGILL: steps over the instruction, but not before it is told to. */
#define _GNU_SOURCE
#include <signal.h>
#include <time.h>
#include <ucontext.h>

volatile long held_back = 0;
volatile long inside = 0;

static void on_illegal(int signal, siginfo_t *info, void *context) {
    inside++;
    struct timespec moment = {0, 1000000};
    while (held_back)
        nanosleep(&moment, 0);
    inside--;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, 0);
}
