/* A loop whose index begins with 1, over an array that is new: it starts one element before the array, inside something that
   was there before and stays where it is. Only the number that the index begins with tells which of them is meant; in the third
   version there is none, and the loop may as well go down from the last element of what was there before. */
#if VERSION >= 3
static long third[16] = {3};
#endif
#if VERSION >= 2
static long fresh[16] = {7, 8};
#endif
static long kept[16] = {1, 2};

long poke(long index) { return kept[index & 15] += 40; }

#if VERSION >= 2
long grow(long index) { return fresh[index & 15] += 1; }

__attribute__((noipa)) long sum(long count) {
    long result = 0;
    for (long at = 1; at <= count; at++)
        result = result * 10 + fresh[at - 1] * at;
    return result;
}
#else
long grow(long index) { return index; }

__attribute__((noipa)) long sum(long count) { return kept[0] + count; }
#endif

#if VERSION >= 3
long other(long index) { return third[index & 15] += 1; }

__attribute__((noipa)) long sum_from(long at, long count) {
    long result = 0;
    for (; at <= count; at++)
        result = result * 10 + third[at - 1] * at;
    return result;
}
#endif
