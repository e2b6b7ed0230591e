/* Where a thread-local ends, another starts. In the second version it is the other way round, and the one that lies first in its
 * block is asked for like the block itself. */
#if VERSION == 1
static __thread int narrow[4];
#endif
static __thread long wide[3];
#if VERSION >= 2
static __thread int narrow[4];
#endif
#if VERSION >= 3
static __thread long added[2];
#endif

long walk(long x) {
    long sum = x * VERSION;
    for (long *at = wide; at != wide + 3; at++)
        sum = sum * 10 + *at;
    return sum;
}

long walk_down(long x) {
    long sum = x * VERSION;
    for (int *at = narrow + 4; at != narrow;)
        sum = sum * 10 + *--at;
    return sum;
}

long set(long x) {
    for (int i = 0; i < 4; i++)
        narrow[i] = x + i;
    for (int i = 0; i < 3; i++)
        wide[i] = x + i;
    return x;
}

long add(long x) {
#if VERSION >= 3
    added[x & 1] += x;
    return added[x & 1];
#else
    return -x;
#endif
}
