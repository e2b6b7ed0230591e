#include <vector>

struct counter {
    long count, *place;
};

static counter kept;
#if VERSION >= 2
static counter behind;
#endif
#if VERSION >= 3
static counter last;
#endif

__attribute__((noinline)) static long counted(counter &it) {
    it.place = &it.count;
    return ++*it.place;
}

extern "C" long compute(long x) { return x; }

extern "C" long plain(long) {
    long all = counted(kept) * 100;
#if VERSION >= 2
    all += counted(behind) * 10;
#endif
#if VERSION >= 3
    all += counted(last);
#endif
    return all;
}

extern "C" long push(long x) {
    long all = 0;
#if VERSION >= 3
    static std::vector<long> before;
    before.push_back(x);
    all += before.size();
#endif
    static std::vector<long> history;
    history.push_back(x);
    all += history.size() * 100;
#if VERSION >= 2
    static std::vector<long> after;
    after.push_back(x);
    all += after.size() * 10;
#endif
    return all;
}
