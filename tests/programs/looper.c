/* Goes round without end, and ends with its input. */
#include <poll.h>
#include <stdio.h>

static long total;

static __attribute__((noinline)) long step(long x) {
    total += x;
    return total;
}

static __attribute__((noinline)) long one_round(long x) {
    return step(x) + 1;
}

int main(void) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    while (poll(&input, 1, 5) == 0)
        one_round(1);
    printf("%ld rounds\n", total);
    return 0;
}
