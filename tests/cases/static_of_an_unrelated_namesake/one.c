/* A function goes, and later another one of its name comes in another file, which nobody calls who called the first: its static
 * is not the old one. */
#define APART static __attribute__((noinline))

#if VERSION == 1
APART long passing(long x) {
    static long count = 10;
    return count += x;
}
long one(long x) { return passing(x); }
#else
long one(long x) { return x; }
#endif
