;; More tables than an instance may have.
;; expect: rejected
;; because: 5 tables
(module (memory (export "memory") 1)
  (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref)
  (func (export "_start")))
