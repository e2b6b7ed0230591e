/* C++ objects of threads: made when first used, destroyed with their thread, by the newest code. */
static long destroyed;
struct Guest {
    long weight;
    explicit Guest(long weight) : weight(weight) {}
    ~Guest() { destroyed += weight * VERSION; }
};
static long made(long x) { return x; }
static thread_local Guest guest(made(100 * VERSION));

extern "C" long weigh(long x) { return guest.weight += x; }
extern "C" long destroyed_weight(long x) { return destroyed + x; }
extern "C" long within(long x) {
    static thread_local Guest inner(made(7));
    return inner.weight += x;
}
/* In a function it has a guard of its own. */
extern "C" long within_added(long x) {
#if VERSION == 3
    static thread_local Guest inner_added(made(70));
    x = inner_added.weight += x;
#endif
    return x;
}
#if VERSION == 4
static thread_local Guest added(made(5));
extern "C" long weigh_added(long x) { return added.weight += x; }
#endif
