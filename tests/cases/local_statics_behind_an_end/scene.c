/* Two functions have a static of the same name. All functions walk through an array to its end, where at first the one static
   begins and then, as the array moves from .data to .bss, the other: they must not change places for that. */
#if VERSION == 1
static long array[2] = {9};
#else
static long array[2];
#endif

#define walk() ({ long sum = 0; for (long *at = array; at < &array[2]; at++) sum += *at; sum; })

long none(long x) { return walk() + x; }

long zero(long x) {
    static long own[2];
    own[x & 1] += x;
    return own[0] * 10 + own[1] + walk() * 1000;
}

long some(long x) {
    static long own[2] = {1, 2};
    own[x & 1] += x;
    return own[0] * 10 + own[1] + walk() * 1000;
}
