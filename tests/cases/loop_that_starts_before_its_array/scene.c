/* A loop whose index begins with 1 may start one element before its array. Something new, of the size of one element, comes to
   lie there, and looks like the array. In the third version the loop itself is another; in the fourth, something else comes to
   lie there; in the fifth, a new loop comes together with what lies before its array; in the sixth as well, and nothing tells
   where its index begins. */
static long cells[16] = {1, 2};
#if VERSION >= 6
static long m = 5, n = 6, o = 7, p = 8;
#endif
#if VERSION >= 5
static long i = 1, j = 2, k = 3, l = 4;
#endif
#if VERSION >= 4
static long e = 50, f = 60, g = 70, h = 80;
#endif
#if VERSION >= 2
static long a = 70, b = 80, c = 90, d = 100;
#endif
#if VERSION >= 3
#define FACTOR * 2
#else
#define FACTOR
#endif

__attribute__((noipa)) long sum(long count) {
    long result = 0;
    for (long at = 1; at <= count; at++)
        result = result * 10 + cells[at - 1] * at FACTOR;
    return result;
}

__attribute__((noipa)) long set(long index) {
    cells[index & 1] = 3;
    return cells[0] * 10 + cells[1];
}

#if VERSION >= 2
long other(long x) { return a += x, b -= x, c ^= x, d += x, a + b + c + d; }
#endif
#if VERSION >= 4
long more(long x) { return e += x, f -= x, g ^= x, h += x, e + f + g + h; }
#endif
#if VERSION >= 5
long last(long x) { return i += x, j -= x, k ^= x, l += x, i + j + k + l; }

__attribute__((noipa)) long product(long count) {
    long result = 1;
    for (long at = 1; at <= count; at++)
        result = result * cells[at - 1] + at;
    return result;
}
#else
__attribute__((noipa)) long product(long count) { return count; }
#endif
#if VERSION >= 6
long least(long x) { return m += x, n -= x, o ^= x, p += x, m + n + o + p; }

__attribute__((noipa)) long product_from(long at, long count) {
    long result = 1;
    for (; at <= count; at++)
        result = result * cells[at - 1] + at;
    return result;
}
#endif
