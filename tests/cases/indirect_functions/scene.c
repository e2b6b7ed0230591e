/* The loader asks a resolver which implementation a name stands for. */
static long calls;
__attribute__((noinline)) static long plain(long x) { calls++; return x + VERSION; }
__attribute__((noinline)) static long fast(long x) { calls++; return x + 100 * VERSION; }
static long (*resolve(void))(long) { return VERSION == 3 ? fast : plain; }
long chosen(long x) __attribute__((ifunc("resolve")));
__attribute__((visibility("hidden"))) long chosen_within(long x) __attribute__((ifunc("resolve")));

long compute(long x) { return chosen(x) * 1000 + chosen_within(x) + (VERSION == 2) * 1000000; }
long calls_so_far(long x) { return calls + x; }
long other(long x) { return fast(x) + plain(x); }
