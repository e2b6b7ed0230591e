// What the scene and its neighbour agree on. The key function is in the scene, and so is the vtable.
#pragma once

struct Shape {
    virtual long area(long x) = 0;
    virtual long name(long x) = 0;
    virtual ~Shape() = default;
};

struct Circle : Shape {
    long side;
    explicit Circle(long side) : side(side) {}
    long area(long x) override;
    long name(long x) override;
    ~Circle() override;
};
