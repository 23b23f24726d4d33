// replaced: a program with operators of its own for single objects. The operators that it doesn't define (arrays, sizes,
// no exceptions) must lead to its own, which no other allocator's free would understand.
#include "check.h"
#include <new>

#pragma GCC diagnostic ignored "-Wsized-deallocation"

static int made, gone;

void *operator new(size_t size)
{
    auto *block = static_cast<size_t *>(malloc(size + 32));
    if (!block)
        throw std::bad_alloc();
    made++;
    block[0] = 0xfeedface;
    return block + 4;
}

void operator delete(void *ptr) noexcept
{
    if (!ptr)
        return;
    auto *block = static_cast<size_t *>(ptr) - 4;
    CHECK(block[0] == 0xfeedface);
    block[0] = 0;
    gone++;
    free(block);
}

struct Thing {
    char text[40];
    ~Thing() { text[0] = 1; }
};

int main()
{
    for (int i = 0; i < 1000; i++) {
        delete new Thing; // with its size, since C++14
        delete[] new Thing[7];
        ::operator delete(::operator new(100, std::nothrow), std::nothrow);
        ::operator delete[](::operator new[](100, std::nothrow), std::nothrow);
        ::operator delete[](::operator new[](100), size_t(100));
    }
    CHECK(made == 5000 && gone == 5000);
    CHECK(::operator new(most - 32, std::nothrow) == nullptr);
    CHECK(::operator new[](most - 32, std::nothrow) == nullptr);
    CHECK(made == 5000);
    return 0;
}
