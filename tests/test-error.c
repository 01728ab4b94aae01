/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "common/common.h"

START_TEST(a_failure_carries_kind_and_text)
{
    g_autoptr(GError) error = NULL;

    ck_assert(!fail(&error, ERROR_CONFLICT, "vm %s is busy", "db"));
    ck_assert(error_is(error, ERROR_CONFLICT));
    ck_assert(!error_is(error, ERROR_FAILED));
    ck_assert_str_eq(error->message, "vm db is busy");
    ck_assert(!fail(NULL, ERROR_CONFLICT, "nobody listens"));
}
END_TEST

START_TEST(system_errors_become_kinds)
{
    static const struct {
        int number;
        enum error_kind kind;
    } rows[] = {{ENOSPC, ERROR_NO_SPACE}, {EDQUOT, ERROR_NO_SPACE}, {ENOENT, ERROR_NOT_FOUND},
                {EACCES, ERROR_IO},       {EINTR, ERROR_IO},        {EIO, ERROR_IO}};

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        unit_fails(fail_errno(&error, rows[i].number, "cannot read %s", "vda"), error, rows[i].kind,
                   "cannot read vda: ");
    }
}
END_TEST

START_TEST(every_kind_has_a_name_and_a_status)
{
    ck_assert_int_eq(error_exit_status(NULL), EXIT_DONE);
    for (int kind = ERROR_FAILED; kind <= ERROR_CANCELLED; kind++) {
        g_autoptr(GError) error = NULL;

        ck_assert_ptr_nonnull(error_kind_name((enum error_kind)kind));
        fail(&error, (enum error_kind)kind, "x");
        ck_assert_int_ne(error_exit_status(error), EXIT_DONE);
    }
}
END_TEST

START_TEST(a_foreign_error_is_a_plain_failure)
{
    g_autoptr(GError) error = g_error_new(G_FILE_ERROR, G_FILE_ERROR_NOENT, "x");

    ck_assert_int_eq(error_kind_of(error), ERROR_FAILED);
    ck_assert_int_eq(error_exit_status(error), EXIT_FAILED);
}
END_TEST

START_TEST(an_interrupt_stops_what_checks_for_it)
{
    g_autoptr(GError) error = NULL;

    unit_ok(interrupt_check(&error), error);
    interrupt_request();
    unit_fails(interrupt_check(&error), error, ERROR_CANCELLED, "interrupted");
    unit_fails(fail_errno(&error, EINTR, "cannot wait"), error, ERROR_CANCELLED, "cannot wait");
}
END_TEST

int main(void)
{
    return UNIT_RUN("error", a_failure_carries_kind_and_text, system_errors_become_kinds,
                    every_kind_has_a_name_and_a_status, a_foreign_error_is_a_plain_failure,
                    an_interrupt_stops_what_checks_for_it);
}
