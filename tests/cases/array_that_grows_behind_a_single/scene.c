/* The last array grows by as much as it lies behind the element before it. Counted from its end, the place of that element then was
   where it starts itself now: that is no reason to take the one for the other. */
#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN long first[1] = {7};
HIDDEN int single[1] = {5};
HIDDEN int grown[VERSION >= 2 ? 7 : 5] = {1, 2, 3, 4};

__attribute__((noipa)) long sum(long x) {
    for (int at = 0; at < 1; at++)
        x = x * 10 + first[at];
    for (int at = 1; at <= 1; at++)
        x = x * 10 + single[at - 1];
    for (int at = 1; at <= (int)(sizeof grown / sizeof *grown); at++)
        x += grown[at - 1];
    return x;
}

long set(long value) { return single[0] = value; }
