/* Functions of a few bytes, one right behind the other (-Os): a jump of five does not fit where they begin, and there is no
 * padding. Only pointers to them are used from outside, so nothing but their entries can lead to the new code. */
#if VERSION == 1
long compute(long x) { return x; }
#elif VERSION == 2
long compute(long x) { return x * 7 + 3; }
#else
long compute(long x) { return x + 1000; }
#endif

/* Long enough to lend room, and the same in all versions. */
static volatile long turns = 0;
__attribute__((noinline)) long lender(long x) {
    turns += x;
    turns ^= 0x100;
    turns ^= 0x100;
    return turns;
}

#if VERSION == 2
long other(long x) { return x * 5; }
#else
long other(long x) { return x + x; }
#endif

/* Without it the linker's padding would do. */
__attribute__((noinline)) long last(long x) {
    turns -= x;
    turns ^= 0x200;
    turns ^= 0x200;
    return turns;
}
