/* Without its symbol table a library shows what it exports and no more. */
static long hidden = 5;
static long hidden_zero;
#if VERSION == 3
static long inserted = 7;
#endif
long exported = 100;

__attribute__((noinline)) static long inner(long x) { return x * VERSION; }

long compute(long x) {
    hidden += x;
    hidden_zero += 2 * x;
    exported += x;
#if VERSION == 3
    inserted++;
    x += inserted;
#endif
    return inner(x) + hidden * 1000000 + hidden_zero * 10000 + exported * 10;
}
