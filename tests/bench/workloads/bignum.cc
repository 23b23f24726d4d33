// Pollard's rho on numbers of a few words, each result a block of its own that dies a moment later: blocks of 16 to 64
// bytes, never many at once. Stands for factoring and computer algebra.
//
//   bignum STEPS
#include "common.h"

struct Big {
    uint32_t length;
    uint32_t limbs[];
};

static Big* sized(uint32_t length) {
    auto* made = static_cast<Big*>(checked(malloc(sizeof(Big) + length * sizeof(uint32_t))));
    made->length = length;
    return made;
}

static Big* trimmed(Big* value) {
    while (value->length > 0 && value->limbs[value->length - 1] == 0) value->length--;
    return value;
}

static Big* small(uint64_t value) {
    Big* made = sized(2);
    made->limbs[0] = value;
    made->limbs[1] = value >> 32;
    return trimmed(made);
}

static int compare(const Big* a, const Big* b) {
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    for (uint32_t i = a->length; i-- > 0;)
        if (a->limbs[i] != b->limbs[i]) return a->limbs[i] < b->limbs[i] ? -1 : 1;
    return 0;
}

static Big* product(const Big* a, const Big* b) {
    Big* made = sized(a->length + b->length);
    memset(made->limbs, 0, made->length * sizeof(uint32_t));
    for (uint32_t i = 0; i < a->length; i++) {
        uint64_t carry = 0;
        for (uint32_t j = 0; j < b->length; j++) {
            carry += uint64_t(a->limbs[i]) * b->limbs[j] + made->limbs[i + j];
            made->limbs[i + j] = carry;
            carry >>= 32;
        }
        made->limbs[i + b->length] = carry;
    }
    return trimmed(made);
}

static Big* sum(const Big* a, const Big* b) {
    if (a->length < b->length) { const Big* t = a; a = b; b = t; }
    Big* made = sized(a->length + 1);
    uint64_t carry = 0;
    for (uint32_t i = 0; i < a->length; i++) {
        carry += uint64_t(a->limbs[i]) + (i < b->length ? b->limbs[i] : 0);
        made->limbs[i] = carry;
        carry >>= 32;
    }
    made->limbs[a->length] = carry;
    return trimmed(made);
}

// a - b, where a is not the smaller one.
static Big* difference(const Big* a, const Big* b) {
    Big* made = sized(a->length);
    int64_t borrow = 0;
    for (uint32_t i = 0; i < a->length; i++) {
        int64_t digit = int64_t(a->limbs[i]) - (i < b->length ? b->limbs[i] : 0) + borrow;
        made->limbs[i] = digit;
        borrow = digit >> 32;
    }
    return trimmed(made);
}

static Big* shifted(const Big* a, uint32_t bits) {
    uint32_t words = bits / 32, rest = bits % 32;
    Big* made = sized(a->length + words + 1);
    memset(made->limbs, 0, made->length * sizeof(uint32_t));
    for (uint32_t i = 0; i < a->length; i++) {
        uint64_t wide = uint64_t(a->limbs[i]) << rest;
        made->limbs[i + words] |= wide;
        made->limbs[i + words + 1] = wide >> 32;
    }
    return trimmed(made);
}

static uint32_t bits(const Big* a) {
    return a->length == 0 ? 0 : 32 * a->length - __builtin_clz(a->limbs[a->length - 1]);
}

// a modulo m by subtracting shifted copies of m; takes a over.
static Big* remainder(Big* a, const Big* m) {
    while (compare(a, m) >= 0) {
        uint32_t shift = bits(a) - bits(m);
        Big* part = shifted(m, shift);
        if (compare(part, a) > 0) {
            free(part);
            part = shifted(m, shift - 1);
        }
        Big* less = difference(a, part);
        free(part);
        free(a);
        a = less;
    }
    return a;
}

static Big* next(const Big* x, const Big* one, const Big* m) {
    Big* square = product(x, x);
    Big* more = sum(square, one);
    free(square);
    return remainder(more, m);
}

int main(int argc, char** argv) {
    uint64_t steps = number(argc, argv, 1), checksum = 0;
    Big *p = small(0xFFFFFFFFFFFFFFC5ull), *q = small(0xFFFFFFFFFFFFFF43ull), *m = product(p, q), *one = small(1);
    Big *slow = small(2), *fast = small(2), *gathered = small(1);
    for (uint64_t i = 0; i < steps; i++) {
        Big* after = next(slow, one, m);
        free(slow);
        slow = after;
        for (int twice = 0; twice < 2; twice++) {
            after = next(fast, one, m);
            free(fast);
            fast = after;
        }
        Big* gap = compare(fast, slow) > 0 ? difference(fast, slow) : difference(slow, fast);
        Big* both = product(gathered, gap);
        free(gap);
        free(gathered);
        gathered = remainder(both, m);
        checksum = mix(checksum, gathered->length > 0 ? gathered->limbs[0] : 0);
    }
    finish(checksum);
    return 0;
}
