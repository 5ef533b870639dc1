;; A data segment at the end of the address space.
;; expect: trap
(module (memory (export "memory") 1) (data (i32.const -1) "abc") (func (export "_start")))
