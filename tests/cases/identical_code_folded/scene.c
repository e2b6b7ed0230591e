/* The linker makes one of functions that are alike; then they part, and meet again. */
__attribute__((noinline)) long first(long x) { return x * 3 + 1; }
__attribute__((noinline)) long second(long x) { return x * 3 + (VERSION == 2 ? 2 : 1); }
__attribute__((noinline)) static long third(long x) { return x * 3 + (VERSION == 3 ? 5 : 1); }
long compute(long x) { return first(x) * 10000 + second(x) * 100 + third(x); }
long (*table[])(long) = {first, second, third};
long through(long x) { return table[x](1); }
