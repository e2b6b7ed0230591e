/* Version 3 needs a function that nobody has. */
static long calls;

#if VERSION == 3
extern long nobody_has_this(long);
#endif

long compute(long x) {
#if VERSION == 3
    x = nobody_has_this(x);
#endif
    calls++;
    return x + VERSION * 100;
}

long calls_so_far(long x) {
    return calls + x;
}
