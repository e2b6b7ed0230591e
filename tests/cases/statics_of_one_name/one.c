/* Names that occur twice: in two files, in two functions, twice in one function, and in none. */
#if VERSION >= 3
static long added;
#endif
static long count = 1;
static long step(long x) { return x + VERSION; }
static long *unnamed = (long[]){10, 20}, *unnamed_too = (long[]){30, 40};
static const char **lists[] = {(const char *[]){"a", "b"}, (const char *[]){"c", "d"}};

#define ONCE(value)                                                                                                      \
    do {                                                                                                                 \
        static long done;                                                                                                \
        if (!done++)                                                                                                     \
            x += value;                                                                                                  \
    } while (0)

long one(long x) {
#if VERSION >= 3
    added++;
#endif
    return count = step(count) + x;
}

long first_times(long x) {
    static long calls;
    ONCE(10);
    ONCE(100);
    ONCE(1000);
    return x * VERSION + calls++ * 10000;
}

long second_times(long x) {
    static long calls = 5;
    if (x > 5)
        ONCE(10);
    ONCE(100);
    return x * VERSION + calls++ * 10000;
}

long literals(long x) { return unnamed[1]++ * 1000 + unnamed_too[1]++ * VERSION + x; }
const char *listed(long x) { return lists[x & 1][x >> 1]; }
