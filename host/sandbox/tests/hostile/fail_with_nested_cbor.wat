;; An error message of arrays in arrays, to exhaust whoever decodes it.
;; expect: guest-error
(module
  (import "optwasm_v1" "fail" (func $fail (param i32 i32 i32)))
  (memory (export "memory") 16)
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 0x81) (i32.const 1000000))
    (call $fail (i32.const 1) (i32.const 0) (i32.const 1000000))))
