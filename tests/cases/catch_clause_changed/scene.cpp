// Only the type in a catch clause changes: not one instruction differs, just the function's exception table.
struct Early {};
struct Late {};

#if VERSION == 1
using Caught = Early;
#else
using Caught = Late;
#endif

extern "C" {
__attribute__((noinline)) long raise_early(long x) {
    if (x > 0)
        throw Early();
    throw Late();
}

__attribute__((noinline)) long guarded(long x) {
    try {
        return raise_early(x);
    } catch (const Caught &) {
        return 100;
    }
}

// What `guarded` lets pass.
long compute(long x) {
    try {
        return guarded(x);
    } catch (const Early &) {
        return 1;
    } catch (const Late &) {
        return 2;
    }
}
}
