/* An index into an array of thread-locals stands beside an offset, which is one element less where the index begins with 1: that
   of the last element of what lies before. Something new comes to lie there in the second version; what the code meant before
   tells that it is not meant, and what the index begins with. In the third and in the fourth the code is new and tells nothing. */
#if VERSION >= 3
static __thread long added_before[4] = {60, 61, 62, 63};
#elif VERSION == 2
static __thread long before[4] = {70, 71, 72, 73};
#endif
static __thread long cells[4] = {1, 2};
#if VERSION >= 3
static __thread long added_behind[4] = {50, 51, 52, 53};
#elif VERSION == 2
static __thread long behind[4] = {40, 41, 42, 43};
#endif

__attribute__((noipa)) long sum(long x) {
    volatile long first = 1, last = 2;
    for (long at = first, end = last; at <= end; at++)
        x = x * 10 + cells[at - 1] * at;
    return x;
}

long set(long value) { return cells[0] = value; }

#if VERSION >= 2
__attribute__((noipa)) long product(long x) {
    volatile long last = 2;
    for (long at = 1, end = last; at <= end; at++)
        x = x * cells[at - 1] + at;
    return x;
}
#else
__attribute__((noipa)) long product(long x) { return -x; }
#endif

#if VERSION == 2
long more(long index) { return before[index & 3] += behind[index & 3] += 1; }
#elif VERSION >= 3
long more(long index) { return added_before[index & 3] += added_behind[index & 3] += 1; }
#endif

#if VERSION == 3
__attribute__((noipa)) long from_any(long x) {
    volatile long first = 1, last = 2;
    for (long at = first, end = last; at <= end; at++)
        x = x * 10 - cells[at - 1] * at;
    return x;
}
#elif VERSION == 4
__attribute__((noipa)) long from_any(long x) { return x + cells[x - 1]; }
#else
__attribute__((noipa)) long from_any(long x) { return x; }
#endif
