;; Goes on after it has failed.
;; expect: guest-error
(module
  (import "optwasm_v1" "fail" (func $fail (param i32 i32 i32)))
  (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (call $output (i32.const 0) (i32.const 10))
    (call $fail (i32.const 1) (i32.const 0) (i32.const 0))
    (loop $l (call $output (i32.const 0) (i32.const 10)) (br $l))))
