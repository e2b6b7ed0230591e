/* One name with several versions: who was linked against the old one goes on with what it has become. */
static long calls;

#if VERSION == 1
long compute(long x) { return ++calls * 100 + x + 1; }
#else
__attribute__((symver("compute@V1"))) long compute_before(long x) { return ++calls * 100 + x + VERSION; }
__attribute__((symver("compute@@V2"))) long compute_now(long x) { return ++calls * 100 + x + VERSION * 10; }
#endif

long within(long x);
#if VERSION == 1
long within(long x) { return compute(x); }
#else
long within(long x) { return compute_now(x); }
#endif
