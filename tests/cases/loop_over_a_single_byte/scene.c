/* gcc knows that a loop over one element runs once, and leaves nothing of it but the index: the address is one byte before the
   array, and nothing tells where the index begins. In the second version something new comes to lie there, which what the code
   meant before rules out. In the third and in the fourth the code is new as well: the index may begin with 0 in the one or with 1
   in the other. */
static signed char single[1] = {5};
#if VERSION == 3
static short e = 500, f = 600, g = 700, h = 800;
#elif VERSION == 4
static signed char e = 50, f = 60, g = 70, h = 80;
#endif
#if VERSION >= 2
static signed char a = 70, b = 80, c = 90, d = 100;
#endif

__attribute__((noipa)) long sum(long x) {
    volatile unsigned long first = 1, last = 1;
    for (unsigned long at = first, end = last; at <= end; at++)
        x = x * 10 + single[at - 1] * at;
    return x;
}

long set(long value) { return single[0] = value; }

#if VERSION >= 2
long other(long x) { return a += x, b -= x, c ^= x, d += x, a + b + c + d; }
#endif
#if VERSION >= 3
long more(long x) { return e += x, f -= x, g ^= x, h += x, e + f + g + h; }

__attribute__((noipa)) long product(long x) {
    volatile unsigned long first = 1, last = 1;
    for (unsigned long at = first, end = last; at <= end; at++)
        x = x * single[at - 1] + at;
    return x;
}
#else
__attribute__((noipa)) long product(long x) { return -x; }
#endif
