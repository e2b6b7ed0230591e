/* The same variable is private, exported, weak and private again: the code reaches it directly or through the GOT. */
#if VERSION == 2
#define KIND
#elif VERSION == 3
#define KIND __attribute__((weak))
#else
#define KIND static
#endif

KIND long count = 5;
KIND long *leads_to = &count;

long bump(long x) {
    count += x;
    if (x < 0)
        leads_to = 0;
    return *leads_to * 10 + VERSION;
}
