/* The loop's instructions stay the same, but the array is another. What lies behind it stays. */
#if VERSION == 1
static long once[4] = {1, 2, 3, 4};
#define ARRAY once
#else
static long again[4] = {5, 6, 7, 8};
#define ARRAY again
#endif
static long behind[4] = {9, 9, 9, 9};

long down(long x) {
    long sum = 0;
    for (long *at = ARRAY + 4; at != ARRAY;)
        sum = sum * 10 + *--at;
    return sum + x;
}

long set(long x) {
    ARRAY[x & 3] = x;
    return behind[x & 3] += x;
}
