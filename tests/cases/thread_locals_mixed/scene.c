/* One function that uses thread-locals which stay and others which are new. */
static __thread long first = 1;
#if VERSION >= 2
static __thread long added = 10, added_list[4] = {1, 2, 3, 4};
#endif
static __thread long second = 2;
#if VERSION >= 3
static __thread long added_later = 1000;
#endif

__attribute__((noinline)) static long pass(long x) { return x; }

long compute(long x) { return x; }
long mixed(long x) {
    first += x;
    second += 2 * x;
#if VERSION >= 2
    added += x;
    added_list[x & 3] += 1;
    x = pass(x);
    long sum = first + added;
    for (int i = 0; i < 4; i++)
        sum += added_list[i];
#else
    long sum = first;
#endif
#if VERSION >= 3
    added_later += sum;
    if (sum > 1000000)
        added_later = 0;
    sum += added_later * 100;
#endif
    return sum * 1000 + second;
}

long *place(long x) {
#if VERSION >= 2
    return x ? &added : &first;
#else
    return &first;
#endif
}
long at_place(long x) { return *place(x); }
long apart(long x) { return first * 1000 + second + x; }
