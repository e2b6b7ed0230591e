// Lambdas that are kept and lambdas that are only called.
#include <algorithm>
#include <functional>
#include <vector>

static std::function<long()> on_open, on_close, on_tick;

// Nobody outside knows of it, and within only a lambda that is kept.
__attribute__((noinline)) static long tick() {
    static long count = 0;
    std::function<long()> work;
#if VERSION == 2 || VERSION == 3
    work = [] { return count += 1000; };
    work();
#endif
    work = [] { return ++count; };
    return work();
}

static std::vector<std::function<long()>> made(long x) {
    std::vector<std::function<long()>> all;
    long more = x;
#if VERSION == 2 || VERSION == 3
    all.push_back([x] { return 90 + x; });
#endif
#if VERSION == 5
    all.push_back([more, x] { return 10 + x + more; });
#elif VERSION == 3
    all.push_back([x] { return 110 + x; });
#else
    all.push_back([x] { return 10 + x; });
#endif
    all.push_back([x] { return 20 + x; });
    return more > 0 ? all : std::vector<std::function<long()>>();
}

extern "C" long compute(long x) { return x; }
extern "C" long set_up(long x) {
    on_tick = [] { return tick(); };
    auto all = made(x);
    on_close = all.back();
    all.pop_back();
    on_open = all.back();
    return all.size() + 1;
}

extern "C" long ticked(long) { return on_tick(); }
extern "C" long opened(long) { return on_open(); }
extern "C" long closed(long) { return on_close(); }
extern "C" long fresh(long) { return made(3).front()(); }

extern "C" long sorted(long) {
    std::vector<long> all = {3, 1, 2};
    volatile long first = 1, second = 1;
    long a = first, b = second;
#if VERSION >= 4
    std::sort(all.begin(), all.end(), [&](long x, long y) { return x * a * b > y * a * b; });
#else
    std::sort(all.begin(), all.end(), [&](long x, long y) { return x * a < y * a; });
    (void)b;
#endif
    return all[0] * 100 + all[1] * 10 + all[2];
}
