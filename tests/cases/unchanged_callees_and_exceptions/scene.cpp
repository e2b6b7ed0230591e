// Exceptions go through frames of several generations, and what is not edited handles them as before.
#include <stdexcept>
#include <string>

#if VERSION < 2
#define EDITED 1000
#else
#define EDITED 2000
#endif
#define CALLED extern "C" __attribute__((noinline)) long

struct Guard {
    static long alive, gone;
    Guard() { ++alive; }
    __attribute__((noinline)) ~Guard() { --alive, ++gone; }
};
long Guard::alive, Guard::gone;

// Not edited.
__attribute__((noinline)) static long thrower(long x) {
    static long thrown;
    Guard guard;
    ++thrown;
    if (x > 0)
        throw std::runtime_error(std::to_string(x + thrown));
    return thrown;
}
__attribute__((noinline)) static long catcher(long (*what)(long), long x) {
    static long caught;
    Guard guard;
    try {
        return what(x);
    } catch (const std::runtime_error &error) {
        return ++caught * 100 + std::stol(error.what());
    }
}
__attribute__((cold, noinline)) static long report(const std::exception &error) {
    static long reports;
    return ++reports * 10000 + std::stol(error.what());
}

// Edited.
CALLED throws(long x) {
    Guard guard;
    if (x > EDITED)
        throw std::runtime_error(std::to_string(EDITED));
    return EDITED + thrower(x);
}
CALLED catches(long x) {
    Guard guard;
    try {
        return EDITED + thrower(x);
    } catch (const std::exception &error) {
        return EDITED + report(error);
    }
}
CALLED both(long x) { return EDITED + catcher(throws, x); }
CALLED gone(long) { return Guard::alive * 100000 + Guard::gone; }
