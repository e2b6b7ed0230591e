#define APART static __attribute__((noinline))

#if VERSION >= 3
APART long passing(long x) {
    static long count = 70;
    return (count += x) * 2;
}
long other(long x) { return passing(x); }
#else
long other(long x) { return -x; }
#endif
