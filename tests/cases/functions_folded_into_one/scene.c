/* Version 1 has two names for one function, as identical code folding leaves behind; in version 2 they differ. */
#if VERSION == 1
long first(long x) {
    return x + 1;
}
extern long second(long x) __attribute__((alias("first")));
#else
long first(long x) {
    return x + 10 * VERSION;
}

long second(long x) {
    return x + 100 * VERSION;
}
#endif

long compute(long x) {
    return first(x) + second(x);
}
