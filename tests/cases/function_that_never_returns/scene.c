/* A loop without an end, and others that have one: only who is in the first stays in old code for good. */
#include <stdlib.h>
#include <unistd.h>

long rounds;

void serve(void) {
    for (;;) {
        rounds += VERSION;
        if (rounds < 0)
            exit(1);
        usleep(1000);
    }
}

void give_up(void) {
    rounds -= VERSION;
    abort();
}

long compute(long x) {
    for (long i = 0; i < 3; i++)
        x += VERSION;
    return x;
}
