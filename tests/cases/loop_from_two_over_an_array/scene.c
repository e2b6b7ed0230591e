/* A loop whose index begins with 2 starts two elements before its array, where in the second version something new begins: of one
   element, so that an index of it would lead nowhere. */
static long cells[16] = {1, 2};
#if VERSION >= 2
static long i = 10, j = 20, k = 30, l = 40;
#endif

long add(long value) { return cells[0] += value; }

#if VERSION >= 2
long other(long x) { return i += x, j -= x, k ^= x, l += x, i + j + k + l; }

__attribute__((noipa)) long product(long x) {
    volatile long first = 2, last = 3;
    for (long at = first, end = last; at <= end; at++)
        x = x * cells[at - 2] + at;
    return x;
}
#else
__attribute__((noipa)) long product(long x) { return -x; }
#endif
