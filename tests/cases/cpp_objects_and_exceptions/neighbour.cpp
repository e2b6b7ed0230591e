// Another module, never reloaded: it keeps an object of the scene, calls it through its vtable, and catches what it throws.
#include <stdexcept>
#include <string>

#include "shape.h"

extern "C" Shape *object_new();
extern "C" long thrower(long x);

extern "C" long kept_area(long x) {
    static Shape *kept = object_new();
    return kept->area(x);
}

extern "C" long caught_outside(long x) {
    try {
        return thrower(x);
    } catch (const std::exception &error) {
        return -1000 - std::stol(std::string(error.what()).substr(8));
    }
}
