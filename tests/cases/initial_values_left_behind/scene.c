/* Values that a generation gave and that were left in place when it was rolled back: nobody's change. */
long speed = VERSION == 4 ? 10 : 10 * VERSION;
long changed = 10 * VERSION;
#if VERSION == 1 || VERSION == 4
long count;
#else
long count = 5;
#endif

long one(long x) { return x + 1; }
long other(long x) { return x * 2; }
long (*chosen)(long) = VERSION == 1 ? one : other;

long compute(long x) { return chosen(x) * 1000 + VERSION; }

#if VERSION == 5
int superreload_after(unsigned generation) { return generation > 0; }
#endif

/* Keeps compilers from taking the values for constants. */
void *all[] = {&speed, &changed, &count, &chosen};
