/* Where the array ends, a single element starts, and the code takes that address twice: once to go down through the array, once to
   count from there. Before, it was seen which of them was meant by the one; that the same is meant by the other does not follow. */
static signed char tail = 1;
#if VERSION >= 2
static long added = 2;
#endif
static long single[1] = {5};
static long grown[VERSION >= 3 ? 8 : 5] = {1, 2};

__attribute__((noipa)) long sum(long x) {
    volatile unsigned long first = 1, last = 1;
    for (long *at = grown + sizeof grown / sizeof *grown; at != grown;)
        x = x * 10 + *--at;
    for (unsigned long at = first, end = last; at <= end; at++)
        x = x * 10 + single[at - 1] * at;
    return x;
}

long set(long value) { return single[0] = value; }

long others(long by) {
    tail += by;
    grown[by & 3] += by;
#if VERSION >= 2
    added += by;
#endif
    return tail;
}
