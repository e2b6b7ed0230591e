/* Thread-locals reached by an index: the displacement stands beside it, and may begin before the variable, even before the
 * first one of all. */
static __thread long first[4] = {1, 2, 3, 4};
#if VERSION >= 2
static __thread long added[8] = {70, 71, 72, 73, 74, 75, 76, 77};
#endif
static __thread long second[4] = {5, 6, 7, 8};

long read_first(long x) {
    return first[x];
}

long read_first_from_one(long x) {
    return first[x - 1];
}

long write_first(long x) {
    return first[x & 3] = x;
}

long read_second(long x) {
    return second[x];
}

long read_second_from_one(long x) {
    return second[x - 1];
}

long write_second(long x) {
    return second[x & 3] = x;
}

long down_second(long x) {
    long sum = 0;
    for (long *at = second + 4; at != second;)
        sum = sum * 10 + *--at;
    return sum + x;
}

long read_added(long x) {
#if VERSION >= 2
    added[x]++;
    return added[x];
#else
    return x;
#endif
}
