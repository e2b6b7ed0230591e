/* Second names for functions and variables, which part in version 3 and meet again in version 4. */
#define ALIAS(of) __attribute__((alias(#of)))
long counter = 5;
long first(long x) { counter += x; return counter * 10 + VERSION; }
extern long weakly(long x) __attribute__((weak, alias("first")));
static long inner(long x) { return first(x); }
extern long second(long x) ALIAS(inner);
#if VERSION == 3
long counted = 70;
#else
extern long counted ALIAS(counter);
#endif
extern long counted;
long read_counted(long x) { return counted + x; }
