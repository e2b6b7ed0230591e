/* Two names of one function until version 4, which gives the second a body of its own. */
#if VERSION == 1
#define FACTOR 3
#elif VERSION == 2
#define FACTOR 30
#else
#define FACTOR 50
#endif

long compute(long x) { return x * FACTOR + 1; }

#if VERSION < 4
extern long weight(long x) __attribute__((alias("compute")));
#else
long weight(long x) { return x * (FACTOR + 20); }
#endif
