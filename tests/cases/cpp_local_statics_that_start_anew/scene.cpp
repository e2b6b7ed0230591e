/* Objects inside of functions are constructed when they are first met, and a guard beside each says whether that has been. */
#include <map>
#include <vector>

#if VERSION == 1
using Kept = std::vector<long>;
static void put(Kept &kept, long x) { kept.push_back(x); }
#else
using Kept = std::map<long, long>;
static void put(Kept &kept, long x) { kept[x] = x; }
#endif

extern "C" long compute(long x) {
    static Kept kept;
    put(kept, x);
    return static_cast<long>(kept.size());
}

extern "C" long of_this_thread(long x) {
    thread_local Kept kept;
    put(kept, x);
    return static_cast<long>(kept.size());
}
