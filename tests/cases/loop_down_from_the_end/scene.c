/* Loops that go down take only the address behind an array, which is where its neighbour starts. The neighbours change. */
#if VERSION >= 3
static int added_before[3] = {7, 7, 7};
#endif
static long first[4] = {1, 2, 3, 4};
#if VERSION >= 2
static long between[4] = {9, 9, 9, 9};
#endif
static long second[4] = {5, 6, 7, 8};
#if VERSION >= 4
static long grown[6] = {1, 1, 1, 1, 1, 1};
#else
static long grown[4] = {1, 1, 1, 1};
#endif
static long last[4] = {2, 2, 2, 2};

long down(long x) {
    long sum = 0;
    for (long *at = first + 4; at != first;)
        sum = sum * 10 + *--at;
    return sum + x;
}

/* Edited in each version, so that its instructions are others. */
long edited(long x) {
    long sum = VERSION;
    for (long *at = second + 4; at != second;)
        sum = sum * 10 + *--at;
    return sum + x;
}

long down_grown(long x) {
    long sum = 0, count = 0;
    for (long *at = grown + sizeof grown / sizeof *grown; at != grown; count++)
        sum += *--at;
    return sum * 100 + count + x;
}

long set(long x) {
    first[x & 3] = second[x & 3] = x;
    grown[x & 3] = x;
    return last[x & 3] += x;
}

long neighbours(long x) {
#if VERSION >= 3
    x += added_before[x & 1];
#endif
#if VERSION >= 2
    between[x & 3] += x;
    x += between[x & 3];
#endif
    return x;
}
