/* Variables that keep their sizes and change their types: the bytes of one mean nothing to the other. */
#if VERSION == 2
static unsigned int count = 3;
#elif VERSION == 3
static float count = 3;
#else
static int count = 3;
#endif

#if VERSION == 4
static int pair[4] = {1, 2, 3, 4};
#else
static long pair[2] = {1, 2};
#endif

struct place {
#if VERSION == 5
    int y, x;
#else
    int x, y;
#endif
};
static struct place place = {1, 2};

#if VERSION == 6
static __thread unsigned long per_thread = 5;
#else
static __thread long per_thread = 5;
#endif

long compute(long x) {
    count += x;
    pair[1] += x;
    place.x += x;
    per_thread += x;
    return (long)count * 1000000 + pair[1] * 10000 + place.x * 100 + per_thread + VERSION * 100000000L;
}
