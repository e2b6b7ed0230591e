/* Version 2 changes the signature of a function inside the library together with all its callers; version 3 that of an
 * exported one, in a way that callers elsewhere, which are not rebuilt, can live with. */
static long kept = 5;

#if VERSION == 1
__attribute__((noinline)) static long inner(long x) {
    return x + kept;
}
#else
__attribute__((noinline)) static long inner(long x, double factor, const char *tag) {
    return (long)(x * factor) + kept + tag[0];
}
#endif

long compute(long x) {
#if VERSION == 1
    return inner(x);
#else
    return inner(x, 10.0 * VERSION, "A");
#endif
}

#if VERSION < 3
long exported(long x) {
    return x + VERSION;
}
#else
long exported(long x, long added_at_the_end) {
    (void)added_at_the_end;
    return x + VERSION;
}
#endif
