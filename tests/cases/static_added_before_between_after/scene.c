/* Each version adds a variable somewhere among the others, so that all addresses behind it move. */
#include <stddef.h>

#if VERSION >= 3
static long added_before[5] = {3, 3, 3, 3, 3};
static long added_before_zero[7];
#endif
static long initialised = 11;
static long zero;
#if VERSION >= 2
static long added_between = 222;
static long added_between_zero;
#endif
static long numbers[4] = {1, 2, 3, 4};
static long other_numbers[4] = {10, 20, 30, 40};
static const long constants[3] = {7, 8, 9};
static __thread long per_thread_first = 1;
#if VERSION >= 2
static __thread long per_thread_added = 50;
#endif
static __thread long per_thread_second = 2;
static long *inside = &numbers[2];
#if VERSION >= 4
static long added_after[3] = {4, 4, 4};
long added_export = 4;
#endif

long bump(long x) {
    initialised += x;
    zero += 2 * x;
    *inside += x;
    return initialised * 1000000 + zero * 1000 + numbers[2];
}

/* Loops to one past the end of each array: the end of one may be the start of the next. */
long sums(long x) {
    for (long *number = numbers; number != numbers + 4; number++)
        x += *number;
    for (long *number = other_numbers; number != other_numbers + 4; number++)
        x += 100 * *number;
    for (const long *number = constants; number != constants + 3; number++)
        x += *number * VERSION;
    return x;
}

long threads_first(long x) {
    return per_thread_first += x;
}

long threads_second(long x) {
    return per_thread_second += x;
}

long added(long x) {
#if VERSION >= 2
    added_between_zero += x;
    x = added_between + added_between_zero;
#endif
#if VERSION >= 3
    for (size_t i = 0; i < 5; i++)
        x += added_before[i];
    added_before_zero[1]++;
    x += added_before_zero[1] * 10000;
#endif
#if VERSION >= 4
    x += added_after[1] + added_export;
#endif
    return x;
}

long threads_added(long x) {
#if VERSION >= 2
    per_thread_added += x;
    return per_thread_added;
#else
    return x;
#endif
}
