/* gcc makes a copy of a function without a parameter that is not used, and calls it by another name: its static stays. */
#define APART static __attribute__((noinline))

APART long counted(long x, long more) {
    static long count = 10;
#if VERSION == 2
    return count += x;
#else
    return (count += x) + more * 0 + more % 2 * 100 * VERSION;
#endif
}

long call(long x) { return counted(x, x * 3); }
long also(long x) { return counted(x + 1, x * 5); }
