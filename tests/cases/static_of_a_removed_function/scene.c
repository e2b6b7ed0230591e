/* gcc calls the statics of functions by their name and a number. The one of a function that is gone is not that of a function
 * that comes. */
#define APART static __attribute__((noinline))

#if VERSION == 1
APART long gone(long x) {
    static long count = 10;
    return count += x;
}
#else
APART long comes(long x) {
    static long count = 20;
    return count += x;
}
#endif

/* The next of that name, of another size. */
#if VERSION >= 3
APART long comes_later(long x) {
    static int count = 30;
    return count += x;
}
#endif

long call(long x) {
#if VERSION == 1
    return gone(x);
#elif VERSION == 2
    return comes(x);
#else
    return comes(x) * 100 + comes_later(x);
#endif
}

long stays(long x) {
    static long other = 5;
    return other += x;
}
